# METADATA
# title: What each role may do
# description: |
#   The acts of each role. The roles of the input are those that the principal has in the project of the act, so a role
#   given for one project counts there only. Acts that reach beyond a project, that give it money or that make
#   administrators need a role for the whole tenant. Acts of the set "own" are limited to the principal's own objects.
# custom:
#   requirement: R11.4
package qcos.acts.permissions

# Everybody who is authenticated, whatever the role.
everybody := {"whoami.read", "backend.read"}

everybody_own := {
	"token.create", "token.read", "token.revoke",
	"job.read", "job.cancel", "evidence.read", "decision.read",
}

job_acts := {"job.submit", "job.read", "job.cancel", "estimate.create"}

money_reads := {"budget.read", "usage.read", "charge.read"}

proof_reads := {"evidence.read", "decision.read", "policy.read", "project.read"}

administration_reads := {"principal.read", "token.read", "key.read", "ledger.read"}

retention_reads := {"hold.read", "retention.read"}

# Who holds is not who erases: see qcos.acts.retention.
hold_acts := {"hold.place", "hold.release"}

# Only a role that holds for all projects of the tenant does these.
tenant_acts := {
	"budget.set", "quota.set", "project.create", "principal.create", "principal.disable", "principal.enable",
	"token.create", "token.revoke", "policy.upload", "policy.activate", "tenant.create", "evidence.renew", "evidence.erase", "erasure.resume",
	"key.rotate", "key.revoke", "key.certify",
}

role_acts := {"role.grant", "role.revoke"}

# What the administrator of one project may give and take there; others only the administrator of all.
project_roles := {"quantum-engineer", "quantum-user", "auditor"}

changes := union({tenant_acts, role_acts, {"policy.test"}})

# Role to the acts it may do on any object of its projects.
permissions := {
	"quantum-admin": union({
		everybody, job_acts, money_reads, proof_reads, administration_reads, retention_reads, changes,
	}),
	"quantum-engineer": union({job_acts, money_reads, proof_reads, {"policy.test"}}),
	"quantum-user": union({{"job.submit", "job.read", "estimate.create"}, money_reads, proof_reads}),
	"auditor": union({{"job.read"}, money_reads, proof_reads, administration_reads, retention_reads, hold_acts}),
}

known_acts := union({acts | some acts in permissions})

deny contains {
	"code": "access.unknown_act",
	"message": sprintf("there is no act %q", [act]),
	"hint": "the acts are listed in qcos.acts.permissions",
} if {
	not act in known_acts
}

deny contains {
	"code": "access.denied",
	"message": sprintf("%s may not do %s%s; roles %s: %s", [who, act, where, reach, roles]),
	"hint": sprintf("%s is for: %s", [act, concat(", ", sort(holders))]),
} if {
	act in known_acts
	not allowed
}

# What belongs to the installation is not for the administrators of its other tenants.
deny contains {
	"code": "access.installation",
	"message": sprintf("%s may not do %s: it belongs to the installation, not to this tenant", [who, act]),
	"hint": "ask an administrator of the tenant that the installation was set up with",
} if {
	act in known_acts
	allowed
	input.details.installation == false
}

default act := ""

act := input.act if is_string(input.act)

default who := "somebody unknown"

who := input.principal.id if is_string(input.principal.id)

default where := ""

where := sprintf(" in project %s", [input.project]) if {
	is_string(input.project)
	input.project != ""
}

tenant_wide if act in tenant_acts

tenant_wide if {
	act in role_acts
	not of_a_project
}

of_a_project if input.details.role in project_roles

default reach := "here"

reach := "for all projects" if tenant_wide

roles := "none" if held == set()

roles := concat(", ", sort(held)) if held != set()

held := {role | some role in input.principal.tenant_roles; is_string(role)} if tenant_wide

held := {role | some role in input.principal.roles; is_string(role)} if not tenant_wide

holders contains role if {
	not tenant_wide
	some role, acts in permissions
	act in acts
}

holders contains sprintf("%s (of all projects)", [role]) if {
	tenant_wide
	some role, acts in permissions
	act in acts
}

holders contains "everybody (own)" if act in everybody_own

allowed if {
	authenticated
	act in everybody
}

allowed if {
	authenticated
	act in everybody_own
	input.own == true
}

allowed if {
	authenticated
	some role in held
	act in permissions[role]
}

authenticated if is_string(input.principal.id)
