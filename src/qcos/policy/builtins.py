"""The functions a policy may call.

An allow list: what both engines (regorus and OPA) have, that depends on its arguments only. So a decision
can be replayed, no policy reaches the network, the clock, the environment or chance, and a misspelt
function is found at upload instead of at the first job.
"""

from __future__ import annotations

from typing import Final

_NAMES = """
abs array.concat array.reverse array.slice base64.decode base64.encode base64.is_valid
base64url.decode base64url.encode base64url.encode_no_pad bits.and bits.lsh bits.negate bits.or
bits.rsh bits.xor ceil concat contains count endswith floor format_int glob.match glob.quote_meta
graph.reachable graph.reachable_paths hex.decode hex.encode indexof indexof_n intersection is_array
is_boolean is_null is_number is_object is_set is_string json.filter json.is_valid json.marshal
json.marshal_with_options json.match_schema json.patch json.remove json.unmarshal json.verify_schema
lower max min net.cidr_contains net.cidr_expand net.cidr_is_valid numbers.range numbers.range_step
object.filter object.get object.keys object.remove object.subset object.union object.union_n print
product regex.find_all_string_submatch_n regex.find_n regex.is_valid regex.match regex.replace
regex.split regex.template_match replace round semver.compare semver.is_valid sort split sprintf
startswith strings.any_prefix_match strings.any_suffix_match strings.count strings.replace_n
strings.reverse substring sum time.add_date time.clock time.date time.diff time.format time.now_ns
time.parse_duration_ns time.parse_ns time.parse_rfc3339_ns time.weekday to_number trace trim
trim_left trim_prefix trim_right trim_space trim_suffix type_name union units.parse
units.parse_bytes upper urlquery.decode urlquery.decode_object urlquery.encode
urlquery.encode_object walk yaml.is_valid yaml.marshal yaml.unmarshal
"""

ALLOWED: Final[frozenset[str]] = frozenset(
    _NAMES.split()
)  # time.now_ns is pinned to the input's time by the engine

REFUSED: Final[dict[str, str]] = {
    "http.send": "a policy must not reach the network; facts come in the input",
    "net.lookup_ip_addr": "a policy must not reach the network; facts come in the input",
    "opa.runtime": "a policy must not read the server's environment",
    "rand.intn": "a decision must be the same when it is replayed",
    "uuid.rfc4122": "a decision must be the same when it is replayed",
    "rego.parse_module": "not available",
}
