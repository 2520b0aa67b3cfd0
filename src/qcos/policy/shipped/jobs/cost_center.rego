# METADATA
# title: Who pays
# description: |
#   A job is charged to the cost center of its project. One that names another, which is somebody else's money, is denied.
# custom:
#   requirement: R8.9
package qcos.jobs.cost_center

deny contains {
	"code": "cost_center.foreign",
	"message": sprintf("cost center %v is not that of project %v, which is %v", [
		input.job.cost_center,
		object.get(input.project, "id", "unknown"),
		input.project.cost_center,
	]),
	"hint": "leave governance.cost_center out, or submit the job to a project of that cost center",
} if {
	understood
	input.job.cost_center != input.project.cost_center
}

# A document without these members is not understood, so nothing is allowed.
deny contains {
	"code": "cost_center.input",
	"message": "the request does not say who pays for the job, or who pays for the project",
	"hint": "give job.cost_center and project.cost_center",
} if {
	not understood
}

understood if {
	is_string(input.job.cost_center)
	is_string(input.project.cost_center)
}
