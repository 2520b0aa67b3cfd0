package qcos.jobs.budget_test

import data.qcos.jobs.budget

paid := {"backend": "qpu-1", "price": 12500000, "currency": "USD"}

free := {"backend": "simulator", "price": 0, "currency": "USD"}

left(available) := {
	"currency": "USD", "month": "2026-11",
	"limit": 5000000000, "available": available,
}

ask(candidates, money) := {"job": {"project": "drug-discovery"}, "candidates": candidates, "budget": money}

codes(document) := {[reason.backend, reason.code] | some reason in budget.exclude with input as document}

test_enough_money if codes(ask([paid, free], left(12500000))) == set()

test_one_micro_unit_short if codes(ask([paid, free], left(12499999))) == {["qpu-1", "budget.exceeded"]}

test_numbers_in_the_message if {
	some reason in budget.exclude with input as ask([paid], left(3200000))
	reason.message == "price 12.500000 USD exceeds 3.200000 USD left of 5000.000000 USD for 2026-11"
}

test_overdrawn_budget_still_takes_free_jobs if {
	codes(ask([paid, free], left(-1))) == {["qpu-1", "budget.exceeded"]}
}

test_no_budget_only_free if codes(ask([paid, free], null)) == {["qpu-1", "budget.missing"]}

test_budget_absent_from_input if {
	codes({"job": {"project": "p"}, "candidates": [paid]}) == {["qpu-1", "budget.missing"]}
}

test_unknown_price_without_budget if {
	unpriced := object.remove(paid, ["price"])
	codes(ask([unpriced], null)) == {["qpu-1", "budget.missing"]}
}

test_other_currency if {
	euro := object.union(paid, {"currency": "EUR", "price": 1})
	codes(ask([euro], left(12500000))) == {["qpu-1", "budget.unclear"]}
}

test_unknown_price if {
	unpriced := object.remove(paid, ["price"])
	codes(ask([unpriced], left(12500000))) == {["qpu-1", "budget.unclear"]}
}

test_text_as_price if {
	strange := object.union(paid, {"price": "0"})
	codes(ask([strange], left(12500000))) == {["qpu-1", "budget.unclear"]}
}

test_incomplete_budget_still_excludes if {
	codes(ask([paid], {"currency": "USD", "available": 5})) == {["qpu-1", "budget.unclear"]}
}

test_input_without_project_still_excludes if {
	codes({"candidates": [paid], "budget": null}) == {["qpu-1", "budget.unclear"]}
}
