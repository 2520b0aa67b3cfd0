# METADATA
# title: How long payloads are kept
# description: |
#   A job asks how many days its spec, result and evidence are to be kept. A tenant that has to keep some data for
#   longer, or may not keep it for so long, says so here by classification; "*" stands for all that are not named.
# custom:
#   requirement: R4.3
package qcos.jobs.retention

minimum_days := {"*": 1}

maximum_days := {"*": 36500}

deny contains {
	"code": "retention.short",
	"message": sprintf("%v days are too short for %v data, which is kept for at least %v", [days, label, least]),
	"hint": "ask for more in evidence_requirements.retention_days",
} if {
	days < least
}

deny contains {
	"code": "retention.long",
	"message": sprintf("%v days are too long for %v data, which is kept for at most %v", [days, label, most]),
	"hint": "ask for fewer in evidence_requirements.retention_days",
} if {
	days > most
}

# A document without these members is not understood, so nothing is allowed.
deny contains {
	"code": "retention.input",
	"message": "the request does not say how long it is to be kept, or what its data are",
	"hint": "give job.retention_days and job.classification",
} if {
	not understood
}

understood if {
	is_number(input.job.retention_days)
	is_string(input.job.classification)
}

days := input.job.retention_days if understood

label := input.job.classification if understood

least := object.get(minimum_days, label, minimum_days["*"])

most := object.get(maximum_days, label, maximum_days["*"])
