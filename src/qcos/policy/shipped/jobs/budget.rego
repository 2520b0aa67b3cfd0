# METADATA
# title: Budget
# description: |
#   A project cannot spend more in a month than its budget. A backend whose price for the job is more than what is left
#   is not used. Without a budget only free backends are used.
# custom:
#   requirement: R3.2
package qcos.jobs.budget

import data.qcos.lib.money

exclude contains reason if {
	some candidate in input.candidates
	not affordable(candidate)
	reason := object.union({"backend": candidate.backend}, why(candidate))
}

affordable(candidate) if candidate.price == 0

affordable(candidate) if {
	comparable(candidate)
	candidate.price <= input.budget.available
}

has_budget if is_object(input.budget)

# Numbers in one currency. A price that cannot be compared is not within the budget.
comparable(candidate) if {
	is_number(candidate.price)
	is_number(input.budget.available)
	candidate.currency == input.budget.currency
}

# The text is made in the body: where a member of the input is missing, the next branch answers.
why(candidate) := {
	"code": "budget.missing",
	"message": text,
	"hint": "ask a quantum-admin for a budget, or use a free simulator",
} if {
	not has_budget
	text := sprintf("project %v has no budget, and %v is not free", [input.job.project, candidate.backend])
} else := {
	"code": "budget.exceeded",
	"message": text,
	"hint": "ask for fewer shots, a cheaper backend or a higher budget",
} if {
	comparable(candidate)
	text := sprintf("price %s exceeds %s left of %s for %v", [
		money.text(candidate.price, candidate.currency),
		money.text(input.budget.available, input.budget.currency),
		money.text(input.budget.limit, input.budget.currency),
		input.budget.month,
	])
} else := {
	"code": "budget.unclear",
	"message": sprintf("the price of %v cannot be compared with the budget", [candidate.backend]),
	"hint": "give the project a budget in the currency of the backend's price book",
}
