# METADATA
# title: Daily quota of shots
# description: A team cannot use more shots in a day than its quota. A team without a quota is not limited.
# custom:
#   requirement: R3.5
package qcos.jobs.quota

deny contains reason if {
	is_object(input.quota)
	not within
	reason := why
}

within if {
	comparable
	input.job.total_shots <= input.quota.available
}

# Numbers that cannot be compared are not within the quota.
comparable if {
	is_number(input.job.total_shots)
	is_number(input.quota.available)
}

# The text is made in the body: where a member of the input is missing, the other branch answers.
why := {
	"code": "quota.exceeded",
	"message": text,
	"hint": "ask for fewer shots, wait for tomorrow (UTC) or ask a quantum-admin for a higher quota",
} if {
	comparable
	text := sprintf("%v shots exceed the %v left of %v for team %v on %v", [
		input.job.total_shots,
		input.quota.available,
		input.quota.limit,
		input.quota.team,
		input.quota.day,
	])
} else := {
	"code": "quota.unclear",
	"message": "the shots of the job cannot be compared with the quota",
	"hint": "tell an administrator: the request lacks numbers that the policy needs",
}
