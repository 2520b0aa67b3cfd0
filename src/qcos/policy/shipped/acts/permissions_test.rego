package qcos.acts.permissions_test

import data.qcos.acts.permissions

# Somebody whose role holds for all projects, giving or taking a role that a project has, if it is such an act.
ask(role, act, own) := object.union(of_project(role, act, own), {"principal": {"tenant_roles": [role]}})

# Somebody whose role holds for this project only.
of_project(role, act, own) := {
	"act": act,
	"object": "x",
	"project": "drug-discovery",
	"own": own,
	"principal": {"id": "user:alice@company.com", "roles": [role], "tenant_roles": []},
	"details": {"role": "quantum-user"},
}

may_in_project(role, act) if codes(of_project(role, act, false)) == set()

codes(document) := {reason.code | some reason in permissions.deny with input as document}

may(role, act) if codes(ask(role, act, false)) == set()

may_own(role, act) if codes(ask(role, act, true)) == set()

acts := {
	"job.submit", "job.read", "job.cancel", "evidence.read", "decision.read", "budget.set", "budget.read", "quota.set",
	"usage.read", "charge.read", "project.create", "project.read", "principal.create", "principal.read", "principal.disable", "principal.enable", "role.grant",
	"role.revoke", "token.create", "token.revoke", "token.read", "policy.upload", "policy.activate", "policy.read",
	"policy.test", "ledger.read", "backend.read", "whoami.read", "estimate.create", "tenant.create",
	"hold.place", "hold.release", "hold.read", "retention.read", "evidence.renew", "evidence.erase", "erasure.resume",
	"key.read", "key.rotate", "key.revoke", "key.certify",
}

test_list_of_acts_is_complete if permissions.known_acts == acts

test_admin_may_do_everything_but_hold if every act in acts - permissions.hold_acts { may("quantum-admin", act) }

test_admin_does_not_hold if every act in permissions.hold_acts { not may("quantum-admin", act) }

test_auditor_holds if every act in permissions.hold_acts {
	may("auditor", act)
	may_in_project("auditor", act)
}

test_auditor_reads_everything if {
	every act in {act | some act in acts; endswith(act, ".read")} { may("auditor", act) }
}

test_auditor_changes_nothing_else if {
	every act in {act | some act in acts - permissions.hold_acts; not endswith(act, ".read")} { not may("auditor", act) }
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

# Who administers one project neither gives it money nor makes administrators, nor touches what others share.
test_project_admin_does_not_reach_beyond if {
	every act in permissions.tenant_acts { not may_in_project("quantum-admin", act) }
}

test_project_admin_works_in_the_project if {
	every act in ["job.submit", "job.read", "job.cancel", "budget.read", "ledger.read", "policy.test"] {
		may_in_project("quantum-admin", act)
	}
}

giving(role, document) := object.union(document, {"details": {"role": role}})

test_project_admin_gives_and_takes_roles_below_his if {
	every act in permissions.role_acts {
		every role in ["quantum-engineer", "quantum-user", "auditor"] {
			codes(giving(role, of_project("quantum-admin", act, false))) == set()
		}
		codes(giving("quantum-admin", of_project("quantum-admin", act, false))) == {"access.denied"}
		codes(giving("quantum-admin", ask("quantum-admin", act, false))) == set()
	}
}

test_unnamed_role_needs_the_whole_tenant if {
	every act in permissions.role_acts {
		codes(object.remove(of_project("quantum-admin", act, false), ["details"])) == {"access.denied"}
		codes(object.remove(ask("quantum-admin", act, false), ["details"])) == set()
	}
}

test_unknown_reach_is_none if {
	document := {"act": "budget.set", "principal": {"id": "user:a", "roles": ["quantum-admin"]}}
	codes(document) == {"access.denied"}
}

test_project_admin_is_told_why if {
	some reason in permissions.deny with input as of_project("quantum-admin", "budget.set", false)
	reason.message == "user:alice@company.com may not do budget.set in project drug-discovery; roles for all projects: none"
	reason.hint == "budget.set is for: quantum-admin (of all projects)"
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
	every act in ["token.create", "token.read", "token.revoke", "job.read", "job.cancel", "evidence.read", "decision.read"] {
		may_own("stranger", act)
		not may("stranger", act)
	}
}

test_stranger_may_nothing_else if {
	every act in acts - (permissions.everybody | permissions.everybody_own) { not may_own("stranger", act) }
}

test_unknown_act if codes(ask("quantum-admin", "server.destroy", false)) == {"access.unknown_act"}

test_own_as_text_does_not_count if codes(ask("quantum-user", "job.cancel", "true")) == {"access.denied"}

test_empty_document if codes({}) == {"access.unknown_act"}

test_nobody_is_not_everybody if codes({"act": "whoami.read"}) == {"access.denied"}

test_message if {
	some reason in permissions.deny with input as ask("stranger", "charge.read", false)
	reason.message == "user:alice@company.com may not do charge.read in project drug-discovery; roles here: stranger"
	reason.hint == "charge.read is for: auditor, quantum-admin, quantum-engineer, quantum-user"
}

test_message_without_roles_and_project if {
	document := {"act": "token.create", "principal": {"id": "service:ci", "roles": [], "tenant_roles": []}}
	some reason in permissions.deny with input as document
	reason.message == "service:ci may not do token.create; roles for all projects: none"
	reason.hint == "token.create is for: everybody (own), quantum-admin (of all projects)"
}

test_own_holders_are_told if {
	some reason in permissions.deny with input as ask("stranger", "job.cancel", false)
	reason.hint == "job.cancel is for: everybody (own), quantum-admin, quantum-engineer"
}

test_installation_is_not_for_other_tenants if {
	document := object.union(ask("quantum-admin", "key.rotate", false), {"details": {"installation": false}})
	codes(document) == {"access.installation"}
	codes(object.union(document, {"details": {"installation": true}})) == set()
	codes(object.union(ask("auditor", "key.rotate", false), {"details": {"installation": false}})) == {"access.denied"}
}
