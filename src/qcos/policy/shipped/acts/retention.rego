# METADATA
# title: Holding and erasing
# description: |
#   Nobody who may place and release legal holds erases payloads, and the other way round: one person alone must not be
#   able to make evidence go away. Before its time a payload is erased only where a tenant's own policies let: set
#   early_permitted. A legal hold is never lifted by a policy.
# custom:
#   requirement: R4.3
package qcos.acts.retention

early_permitted := false

deny contains {
	"code": "access.early",
	"message": sprintf("%v is to be kept until %v", [object.get(input, "object", "it"), object.get(details, "retain_until", "its time")]),
	"hint": "erasing before that has to be permitted by the tenant's policies: early_permitted in acts/retention.rego",
} if {
	erasing
	not early_permitted
	not object.get(details, "early", true) == false
}

deny contains {
	"code": "access.separation",
	"message": "whoever may hold payloads does not erase them",
	"hint": "let somebody erase who has not the role auditor",
} if {
	erasing
	"auditor" in roles
}

deny contains {
	"code": "access.separation",
	"message": "whoever may erase payloads does not hold or release them",
	"hint": "let somebody hold and release who has not the role quantum-admin",
} if {
	input.act in {"hold.place", "hold.release"}
	"quantum-admin" in roles
}

erasing if input.act == "evidence.erase"

default details := {}

details := input.details if is_object(input.details)

roles := {role |
	is_object(input.principal)
	some name in ["roles", "tenant_roles"]
	some role in object.get(input.principal, name, [])
}
