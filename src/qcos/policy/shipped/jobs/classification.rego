# METADATA
# title: Classified data stays in-house
# description: |
#   A job whose classification is not one of the open labels runs only on backends that are sovereign and on premises.
#   A label that nobody listed counts as classified: a spelling mistake must not open a door.
# custom:
#   requirement: R3.4
package qcos.jobs.classification

open_labels := {"public", "open", "unclassified", "internal", "internal-restricted"}

exclude contains reason if {
	some candidate in input.candidates
	not open_data
	not in_house(candidate)
	reason := {
		"backend": candidate.backend,
		"code": "classification.sovereign",
		"message": sprintf("%s data must stay on sovereign backends on premises; %v is in zone %v, %s", [
			label,
			candidate.backend,
			object.get(candidate, "zone", "unknown"),
			premises(candidate),
		]),
		"hint": "use a sovereign backend on premises, or declassify the data",
	}
}

open_data if label in open_labels

default label := "unlabelled"

label := lower(trim_space(input.job.classification)) if is_string(input.job.classification)

in_house(candidate) if {
	candidate.zone == "sovereign"
	candidate.on_premise == true
}

premises(candidate) := "on premises" if candidate.on_premise == true

else := "not on premises"
