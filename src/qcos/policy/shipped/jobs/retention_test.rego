package qcos.jobs.retention_test

import data.qcos.jobs.retention

ask(days, label) := {"job": {"retention_days": days, "classification": label}}

codes(document) := {reason.code | some reason in retention.deny with input as document}

# What a tenant might say.
least := {"*": 30, "clinical": 3650}

most := {"*": 36500, "personal": 365}

bound(document) := {reason.code |
	some reason in retention.deny with input as document
		with retention.minimum_days as least
		with retention.maximum_days as most
}

# Holds also where a tenant has changed the bounds of its own labels.
test_a_year_of_data_nobody_named if codes(ask(365, "some label that nobody uses")) == set()

test_too_short if {
	bound(ask(29, "internal")) == {"retention.short"}
	bound(ask(3649, "clinical")) == {"retention.short"}
}

test_long_enough if {
	bound(ask(30, "internal")) == set()
	bound(ask(3650, "clinical")) == set()
}

test_too_long if {
	bound(ask(366, "personal")) == {"retention.long"}
	bound(ask(365, "personal")) == set()
}

test_not_understood if every document in [{}, {"job": {}}, ask("7", "internal"), ask(7, null), {"job": null}] {
	codes(document) == {"retention.input"}
}

test_message if {
	some reason in retention.deny with input as ask(7, "clinical") with retention.minimum_days as least
	reason.message == "7 days are too short for clinical data, which is kept for at least 3650"
}
