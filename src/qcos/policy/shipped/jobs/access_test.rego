package qcos.jobs.access_test

import data.qcos.jobs.access

ask(roles, purpose) := {
	"job": {"project": "drug-discovery", "purpose": purpose},
	"principal": {"id": "user:alice@company.com", "roles": roles},
}

codes(document) := {reason.code | some reason in access.deny with input as document}

test_engineer_runs_production if codes(ask(["quantum-engineer"], "production-benchmark")) == set()

test_admin_runs_production if codes(ask(["quantum-admin"], "production")) == set()

test_user_does_not_run_production if codes(ask(["quantum-user"], "production-benchmark")) == {"access.production"}

test_case_and_spaces_do_not_help if codes(ask(["quantum-user"], " Production run")) == {"access.production"}

test_user_runs_research if codes(ask(["quantum-user"], "research")) == set()

test_auditor_submits_nothing if codes(ask(["auditor"], "research")) == {"access.role"}

test_no_role if codes(ask([], "research")) == {"access.role"}

test_auditor_who_is_engineer_too if codes(ask(["auditor", "quantum-engineer"], "production")) == set()

test_no_purpose if {
	document := {"job": {"project": "p"}, "principal": {"id": "user:a", "roles": ["quantum-user"]}}
	codes(document) == {"access.input"}
}

test_number_as_purpose if codes(ask(["quantum-user"], 7)) == {"access.input"}

test_empty_document if codes({}) == {"access.input"}

test_message if {
	some reason in access.deny with input as ask(["quantum-user"], "production")
	contains(reason.message, "user:alice@company.com may not submit production jobs")
}
