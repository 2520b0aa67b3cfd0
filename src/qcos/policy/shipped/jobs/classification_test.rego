package qcos.jobs.classification_test

import data.qcos.jobs.classification

sovereign := {"backend": "in-house", "zone": "sovereign", "on_premise": true}

cloud := {"backend": "cloud-qpu", "zone": "cloud", "on_premise": false}

hosted := {"backend": "hosted", "zone": "sovereign", "on_premise": false}

local := {"backend": "desk", "zone": "local", "on_premise": true}

excluded(label) := {reason.backend |
	some reason in classification.exclude with input as {
		"job": {"classification": label},
		"candidates": [sovereign, cloud, hosted, local],
	}
}

test_open_labels_run_anywhere if {
	every label in ["public", "internal", "internal-restricted", "Unclassified", " open "] {
		excluded(label) == set()
	}
}

test_classified_labels_stay_in_house if {
	every label in ["classified", "secret", "top-secret", "TOP SECRET", "confidential"] {
		excluded(label) == {"cloud-qpu", "hosted", "desk"}
	}
}

test_misspelt_label_counts_as_classified if excluded("pubilc") == {"cloud-qpu", "hosted", "desk"}

test_no_label_counts_as_classified if {
	reasons := classification.exclude with input as {"job": {}, "candidates": [cloud, sovereign]}
	{reason.backend | some reason in reasons} == {"cloud-qpu"}
}

test_number_as_label_counts_as_classified if excluded(7) == {"cloud-qpu", "hosted", "desk"}

test_unknown_backend_counts_as_outside if {
	reasons := classification.exclude with input as {
		"job": {"classification": "secret"},
		"candidates": [{"backend": "x"}],
	}
	{reason.code | some reason in reasons} == {"classification.sovereign"}
}

test_message if {
	reasons := classification.exclude with input as {"job": {"classification": "secret"}, "candidates": [cloud, local]}
	{reason.message | some reason in reasons} == {
		"secret data must stay on sovereign backends on premises; cloud-qpu is in zone cloud, not on premises",
		"secret data must stay on sovereign backends on premises; desk is in zone local, on premises",
	}
}
