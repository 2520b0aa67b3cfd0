package qcos.jobs.quota_test

import data.qcos.jobs.quota

left(available) := {"team": "chemistry", "day": "2026-11-23", "limit": 50000, "available": available}

ask(shots, rest) := {"job": {"total_shots": shots}, "quota": rest}

codes(document) := {reason.code | some reason in quota.deny with input as document}

test_exactly_enough if codes(ask(1000, left(1000))) == set()

test_one_shot_short if codes(ask(1001, left(1000))) == {"quota.exceeded"}

test_no_quota_is_no_limit if codes(ask(10000000, null)) == set()

test_quota_absent if codes({"job": {"total_shots": 1}}) == set()

test_unknown_shots if codes({"job": {}, "quota": left(5)}) == {"quota.unclear"}

test_text_as_shots if codes(ask("1", left(5))) == {"quota.unclear"}

test_incomplete_quota_still_denies if codes(ask(6, {"available": 5})) == {"quota.unclear"}

test_message if {
	some reason in quota.deny with input as ask(60000, left(50000))
	reason.message == "60000 shots exceed the 50000 left of 50000 for team chemistry on 2026-11-23"
}
