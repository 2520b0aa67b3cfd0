# METADATA
# title: What each role may do
# description: |
#   The acts of each role. The roles of the input are those that the principal has in the project of the act, so a role
#   given for one project counts there only. Acts of the set "own" are limited to the principal's own objects.
# custom:
#   requirement: R11.4
package qcos.acts.permissions

# Everybody who is authenticated, whatever the role.
everybody := {"whoami.read", "backend.read"}

everybody_own := {"token.create", "token.read", "token.revoke"}

job_acts := {"job.submit", "job.read", "job.cancel", "estimate.create"}

money_reads := {"budget.read", "usage.read", "charge.read"}

proof_reads := {"evidence.read", "decision.read", "policy.read", "project.read"}

administration_reads := {"principal.read", "token.read", "ledger.read"}

changes := {
	"budget.set", "quota.set", "project.create", "principal.create", "role.grant", "role.revoke",
	"token.create", "token.revoke", "policy.upload", "policy.activate", "policy.test", "tenant.create",
}

# Role to the acts it may do on any object of its projects.
permissions := {
	"quantum-admin": union({everybody, job_acts, money_reads, proof_reads, administration_reads, changes}),
	"quantum-engineer": union({job_acts, money_reads, proof_reads, {"policy.test"}}),
	"quantum-user": union({{"job.submit", "job.read", "estimate.create"}, money_reads, proof_reads}),
	"auditor": union({{"job.read"}, money_reads, proof_reads, administration_reads}),
}

# Role to the acts it may do on its own objects only.
own_permissions := {"quantum-user": {"job.cancel"}}

known_acts := permissions["quantum-admin"]

deny contains {
	"code": "access.unknown_act",
	"message": sprintf("there is no act %q", [act]),
	"hint": "the acts are listed in qcos.acts.permissions",
} if {
	not act in known_acts
}

deny contains {
	"code": "access.denied",
	"message": sprintf("%s may not do %s%s; roles here: %s", [who, act, where, roles]),
	"hint": sprintf("%s is for: %s", [act, concat(", ", sort(holders))]),
} if {
	act in known_acts
	not allowed
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

roles := "none" if held == set()

roles := concat(", ", sort(held)) if held != set()

held := {role | some role in input.principal.roles; is_string(role)}

holders contains role if {
	some role, acts in permissions
	act in acts
}

holders contains sprintf("%s (own)", [role]) if {
	some role, acts in own_permissions
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

allowed if {
	authenticated
	some role in held
	act in own_permissions[role]
	input.own == true
}

authenticated if is_string(input.principal.id)
