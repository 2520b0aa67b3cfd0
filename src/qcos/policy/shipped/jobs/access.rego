# METADATA
# title: Who submits
# description: |
#   Production jobs (purpose begins with "production") are submitted by role quantum-engineer or quantum-admin only.
#   Other jobs need one of the roles that submit at all; an auditor submits nothing.
# custom:
#   requirement: R3.3
package qcos.jobs.access

production_roles := {"quantum-engineer", "quantum-admin"}

submitting_roles := {"quantum-user"} | production_roles

deny contains {
	"code": "access.role",
	"message": sprintf("%v has no role in project %v that submits jobs", [input.principal.id, input.job.project]),
	"hint": "ask a quantum-admin for the role quantum-user in this project",
} if {
	not may_submit
}

deny contains {
	"code": "access.production",
	"message": sprintf("%v may not submit production jobs: purpose %q needs the role quantum-engineer", [
		input.principal.id,
		input.job.purpose,
	]),
	"hint": "ask a quantum-engineer to submit it, or give the job another purpose",
} if {
	may_submit
	not may_run_production
	production
}

# A document without these members is not understood, so nothing is allowed.
deny contains {
	"code": "access.input",
	"message": "the request does not say who asks, in which project and for what purpose",
	"hint": "give principal.id, job.project and job.purpose",
} if {
	not understood
}

understood if {
	is_string(input.principal.id)
	is_string(input.job.project)
	is_string(input.job.purpose)
}

may_submit if {
	some role in input.principal.roles
	role in submitting_roles
}

may_run_production if {
	some role in input.principal.roles
	role in production_roles
}

production if {
	is_string(input.job.purpose)
	startswith(lower(trim_space(input.job.purpose)), "production")
}
