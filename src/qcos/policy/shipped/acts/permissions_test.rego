package qcos.acts.permissions_test

import data.qcos.acts.permissions

ask(role, act, own) := {
	"act": act,
	"object": "x",
	"project": "drug-discovery",
	"own": own,
	"principal": {"id": "user:alice@company.com", "roles": [role]},
}

codes(document) := {reason.code | some reason in permissions.deny with input as document}

may(role, act) if codes(ask(role, act, false)) == set()

may_own(role, act) if codes(ask(role, act, true)) == set()

acts := {
	"job.submit", "job.read", "job.cancel", "evidence.read", "decision.read", "budget.set", "budget.read", "quota.set",
	"usage.read", "charge.read", "project.create", "project.read", "principal.create", "principal.read", "role.grant",
	"role.revoke", "token.create", "token.revoke", "token.read", "policy.upload", "policy.activate", "policy.read",
	"policy.test", "ledger.read", "backend.read", "whoami.read", "estimate.create", "tenant.create",
}

test_list_of_acts_is_complete if permissions.known_acts == acts

test_admin_may_do_everything if every act in acts { may("quantum-admin", act) }

test_auditor_reads_everything if {
	every act in {act | some act in acts; endswith(act, ".read")} { may("auditor", act) }
}

test_auditor_changes_nothing if {
	every act in {act | some act in acts; not endswith(act, ".read")} { not may("auditor", act) }
}

test_engineer_works_on_all_jobs_of_the_project if {
	every act in ["job.submit", "job.read", "job.cancel", "evidence.read", "decision.read"] {
		may("quantum-engineer", act)
	}
}

test_engineer_does_not_administer if {
	every act in ["budget.set", "role.grant", "policy.activate", "principal.read", "ledger.read", "tenant.create"] {
		not may("quantum-engineer", act)
	}
}

test_user_cancels_own_jobs_only if {
	may_own("quantum-user", "job.cancel")
	not may("quantum-user", "job.cancel")
}

test_user_submits_and_reads if {
	every act in ["job.submit", "job.read", "evidence.read", "budget.read", "project.read"] { may("quantum-user", act) }
}

test_everybody if {
	every act in ["whoami.read", "backend.read"] { may("stranger", act) }
	every act in ["token.create", "token.read", "token.revoke"] {
		may_own("stranger", act)
		not may("stranger", act)
	}
}

test_stranger_may_nothing_else if not may_own("stranger", "job.read")

test_unknown_act if codes(ask("quantum-admin", "server.destroy", false)) == {"access.unknown_act"}

test_own_as_text_does_not_count if codes(ask("quantum-user", "job.cancel", "true")) == {"access.denied"}

test_empty_document if codes({}) == {"access.unknown_act"}

test_nobody_is_not_everybody if codes({"act": "whoami.read"}) == {"access.denied"}

test_message if {
	some reason in permissions.deny with input as ask("quantum-user", "budget.set", false)
	reason.message == "user:alice@company.com may not do budget.set in project drug-discovery; roles here: quantum-user"
	reason.hint == "budget.set is for: quantum-admin"
}

test_message_without_roles_and_project if {
	document := {"act": "token.create", "principal": {"id": "service:ci", "roles": []}}
	some reason in permissions.deny with input as document
	reason.message == "service:ci may not do token.create; roles here: none"
	reason.hint == "token.create is for: everybody (own), quantum-admin"
}

test_own_holders_are_told if {
	some reason in permissions.deny with input as ask("stranger", "job.cancel", false)
	reason.hint == "job.cancel is for: quantum-admin, quantum-engineer, quantum-user (own)"
}
