package qcos.acts.retention_test

import data.qcos.acts.retention

ask(act, roles, details) := {
	"act": act,
	"object": "job-1",
	"principal": {"id": "user:a", "roles": roles, "tenant_roles": roles},
	"details": details,
}

# Whatever a tenant has permitted.
codes(document) := {reason.code |
	some reason in retention.deny with input as document with retention.early_permitted as false
}

due := {"early": false, "retain_until": "2033-01-09T00:00:00Z"}

early := {"early": true, "retain_until": "2033-01-09T00:00:00Z"}

test_in_time if {
	codes(ask("evidence.erase", ["quantum-admin"], due)) == set()
	count(retention.deny) == 0 with input as ask("evidence.erase", ["quantum-admin"], due)
}

test_before_its_time if codes(ask("evidence.erase", ["quantum-admin"], early)) == {"access.early"}

test_when_nobody_said if {
	codes(ask("evidence.erase", ["quantum-admin"], {})) == {"access.early"}
	codes(ask("evidence.erase", ["quantum-admin"], null)) == {"access.early"}
	codes(ask("evidence.erase", ["quantum-admin"], {"early": "no"})) == {"access.early"}
}

test_where_it_is_permitted if {
	found := {reason.code |
		some reason in retention.deny with input as ask("evidence.erase", ["quantum-admin"], early)
			with retention.early_permitted as true
	}
	found == set()
}

test_auditor_does_not_erase if {
	codes(ask("evidence.erase", ["auditor"], due)) == {"access.separation"}
	codes(ask("evidence.erase", ["quantum-admin", "auditor"], due)) == {"access.separation"}
}

test_admin_does_not_hold if every act in ["hold.place", "hold.release"] {
	codes(ask(act, ["auditor"], {})) == set()
	codes(ask(act, ["auditor", "quantum-admin"], {})) == {"access.separation"}
}

test_role_of_one_project_counts if {
	document := object.union(ask("evidence.erase", [], due), {"principal": {"roles": ["auditor"]}})
	codes(document) == {"access.separation"}
}

test_other_acts_are_not_concerned if codes(ask("job.read", ["auditor", "quantum-admin"], {})) == set()

test_nobody if {
	codes({"act": "evidence.erase"}) == {"access.early"}
	codes({"act": "hold.place", "principal": null}) == set()
	codes({}) == set()
}

test_message if {
	some reason in retention.deny with input as ask("evidence.erase", ["quantum-admin"], early)
		with retention.early_permitted as false
	reason.message == "job-1 is to be kept until 2033-01-09T00:00:00Z"
}
