package qcos.jobs.cost_center_test

import data.qcos.jobs.cost_center

ask(job, project) := {"job": {"cost_center": job}, "project": {"id": "drug-discovery", "cost_center": project}}

codes(document) := {reason.code | some reason in cost_center.deny with input as document}

test_own if codes(ask("CC-1", "CC-1")) == set()

test_foreign if codes(ask("CC-2", "CC-1")) == {"cost_center.foreign"}

test_case_counts if codes(ask("cc-1", "CC-1")) == {"cost_center.foreign"}

test_prefix_is_another if codes(ask("CC-10", "CC-1")) == {"cost_center.foreign"}

test_project_without_name if {
	codes({"job": {"cost_center": "CC-2"}, "project": {"cost_center": "CC-1"}}) == {"cost_center.foreign"}
}

test_no_cost_center if codes({"job": {}, "project": {"cost_center": "CC-1"}}) == {"cost_center.input"}

test_number_as_cost_center if codes(ask(7, 7)) == {"cost_center.input"}

test_null_is_nobody if codes(ask(null, null)) == {"cost_center.input"}

test_empty_document if codes({}) == {"cost_center.input"}

test_message if {
	some reason in cost_center.deny with input as ask("CC-2", "CC-1")
	reason.message == "cost center CC-2 is not that of project drug-discovery, which is CC-1"
}
