"""Programs somebody may send to read files, to crash or hang a parser, or to show two parsers two programs.

Each with its format and the codes of which one must be its reason. The first block is what was seen to crash,
hang or read files in the parsers that there are.
"""

from __future__ import annotations

from typing import Final

STD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
Q = STD + "qubit[4] q;\nbit[4] c;\n"
Q2 = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[4];\ncreg c[4];\n'
DEEP = 10_000

_SEEN: Final[dict[str, tuple[str, str]]] = {
    "include of an absolute path": (STD + 'include "/etc/passwd";\nqubit q;', "circuit.include"),
    "include of a relative path": (STD + 'include "../../secret.inc";\nqubit q;', "circuit.include"),
    "10,000 parentheses": (Q + f"rx({'(' * DEEP}1{')' * DEEP}) q[0];", "circuit.nesting"),
    "10,000 open parentheses": (Q + f"rx({'(' * DEEP}", "circuit.nesting"),
    "10,000 blocks": (Q + "if (c[0] == 1) {" * DEEP + "x q[0];" + "}" * DEEP, "circuit.nesting"),
    "100,000 minus signs": (Q + f"rx({'-' * 100_000}1) q[0];", "circuit.unary"),
    "100,000 minus signs with blanks": (Q + f"rx({'- ' * 100_000}1) q[0];", "circuit.unary"),
    "100,000 minus signs with comments": (Q + f"rx({'-/**/' * 100_000}1) q[0];", "circuit.unary"),
    "a loop of 10^9": (Q + "for int i in [0:1000000000] { x q[0]; }", "circuit.gates"),
    "a loop of 10^9 without a body": (Q + "for int i in [1:1000000000] { }", "circuit.gates"),
    "loops in loops of 10^9": (
        Q + "for int i in [0:999] { for int j in [0:999] { for int k in [0:999] { x q[0]; } } }",
        "circuit.gates",
    ),
    "a range longer than any integer": (Q + "for int i in [0:9223372036854775807] x q[0];", "circuit.gates"),
    "qubit[10^9]": (STD + "qubit[1000000000] q;", "circuit.qubits"),
    "qubit[10^9] in hexadecimal": (STD + "qubit[0x3B9ACA00] q;", "circuit.qubits"),
    "qubit[10^9] with underscores": (STD + "qubit[1_000_000_000] q;", "circuit.qubits"),
    "qubit[10^9] by a constant": (STD + "const int n = 1000000000;\nqubit[n] q;", "circuit.qubits"),
    "qubit[10^9] by a product": (STD + "qubit[100000 * 10000] q;", "circuit.qubits"),
    "bit[10^9]": (STD + "qubit q; bit[1000000000] c;", "circuit.qubits"),
    "many registers": (STD + "".join(f"qubit[9999] q{n};" for n in range(99)), "circuit.qubits"),
    "9**9**9**9 as an angle": (Q + "rx(9**9**9**9) q[0];", "circuit.constant"),
    "9**9**9**9 as a constant": (STD + "const int n = 9**9**9**9;\nqubit q;", "circuit.constant"),
    "9**9**9**9 as a size": (STD + "qubit[9**9**9**9] q;", "circuit.constant"),
    "9**9**9**9 in a gate": (STD + "gate g a { rx(9**9**9**9) a; }\nqubit q; g q;", "circuit.constant"),
    "a shift by 10^9": (STD + "const int n = 1 << 1000000000;\nqubit q;", "circuit.constant"),
    "10 MB of gates": (Q + "x q[0];\n" * 1_250_000, "circuit.size"),
    "10 MB of comment": (Q + "/*" + "x" * 10_000_000 + "*/", "circuit.size"),
    "an undefined gate": (Q + "h q[0];\nfoo q[0];", "circuit.undefined"),
    "a while loop": (Q + "while (c[0] == 0) { h q[0]; c[0] = measure q[0]; }", "circuit.unbounded"),
    "while true": (Q + "while (true) { }", "circuit.unbounded"),
}

_TEXT: Final[dict[str, tuple[str, str]]] = {
    "nothing": ("", "circuit.empty"),
    "only blanks and comments": ("  \n// x\n/* y */\n", "circuit.empty"),
    "an unterminated comment": (Q + "/* x q[0];", "circuit.comment"),
    "an unterminated comment of one slash": (Q + "/*/", "circuit.comment"),
    "many openings of comments": (Q + "/*" * 100_000, "circuit.comment"),
    "a comment in a comment": (Q + "/* /* */ x q[0]; // */", "circuit.comment"),
    "a comment that ends where it begins": (Q + "/*/*/ x q[0]; */", "circuit.comment"),
    "an unterminated string": (Q + 'include "stdgates.inc', "circuit.string"),
    "a string over two lines": ('OPENQASM 3.0;\ninclude "std\ngates.inc";', "circuit.string"),
    "strings without end": (Q + '"' * 100_001, "circuit.string"),
    "NUL": (Q + "x q[0];\x00 y q[0];", "circuit.character"),
    "NUL in a comment": (Q + "// \x00", "circuit.character"),
    "a byte order mark": ("\ufeff" + Q, "circuit.character"),
    "a carriage return alone": (Q + '// harmless\rinclude "/etc/passwd";', "circuit.character"),
    "a vertical tab": (Q + "x\x0bq[0];", "circuit.character"),
    "a line separator in a comment": (Q + "// a\u2028x q[0];", "circuit.character"),
    "text turned around in a comment": (Q + "// \u202e evil \u202c", "circuit.character"),
    "a zero-width joiner in a name": (STD + "qubit a\u200db;", "circuit.character"),
    "a no-break space": (STD + "qubit\u00a0q;", "circuit.character"),
    "a full-width semicolon": (STD + "qubit q\uff1b", "circuit.character"),
    "other digits": (STD + "qubit[\u0663] q;", "circuit.character"),
    "a combining accent": (STD + "qubit e\u0301;", "circuit.character"),
    "an emoji": (STD + "qubit \U0001f600;", "circuit.character"),
    "an escape": (Q + 'include "stdgates.inc\\";', "circuit.string circuit.include"),
    "single quotes": (Q + "include '/etc/passwd';", "circuit.character circuit.include"),
    "a backquote": (Q + "x `id`;", "circuit.character"),
    "a directive": (Q + "#pragma braket noise bit_flip(0.1) q[0]\n", "circuit.character"),
    "a pragma": (Q + "pragma evil /*\nx q[0]; // */", "circuit.unsupported"),
    "an annotation": (Q + "@evil /*\nx q[0]; // */", "circuit.unsupported"),
    "a name of 300 characters": (STD + f"qubit {'q' * 300};", "circuit.word"),
    "an integer of a million digits": (STD + f"const int n = {'9' * 900_000};\nqubit q;", "circuit.word"),
    "a number of 5,000 digits after the point": (Q + f"rx(0.{'1' * 5_000}) q[0];", "circuit.word"),
    "a bit string of 300 digits": (STD + f'bit[300] c = "{"01" * 150}"; qubit q;', "circuit.word"),
}

_INCLUDES: Final[dict[str, tuple[str, str]]] = {
    f"include: {text!r}": (STD + text + "\nqubit q;", "circuit.include circuit.string circuit.character")
    for text in (
        'include/**/"/etc/passwd";',
        'include //\n "/etc/passwd";',
        'include\n\n\t"/etc/passwd";',
        'include"/etc/passwd";',
        'include "stdgates.inc" "/etc/passwd";',
        'include "stdgates.inc/../../etc/passwd";',
        'include "./stdgates.inc";',
        'include "STDGATES.INC";',
        'include "stdgates.inc ";',
        'include "std/**/gates.inc";',
        "include stdgates.inc;",
        "include </etc/passwd>;",
        "include 0101;",
        'include "0101";',
        "include;",
        "include",
        'include "\\x2fetc\\x2fpasswd";',
        "include '/etc/passwd';",
        'include "file:///etc/passwd";',
        'include "http://127.0.0.1/x.inc";',
        'include "/dev/zero";',
        'include "/dev/stdin";',
        'include "/proc/self/environ";',
        'include """/etc/passwd""";',
        'if (true) { include "/etc/passwd"; }',
    )
}

_SHAPES: Final[dict[str, tuple[str, str]]] = {
    "10,000 brackets": (Q + "x q" + "[" * DEEP, "circuit.nesting"),
    "10,000 braces": (Q + "{" * DEEP, "circuit.nesting"),
    "10,000 brackets of all kinds": (Q + "([{" * DEEP, "circuit.nesting"),
    "closing brackets only": (Q + ")]}" * DEEP, "circuit.syntax"),
    "brackets that cross": (Q + "rx([1)] q[0];", "circuit.syntax"),
    "10,000 tildes": (Q + f"rx({'~' * DEEP}1) q[0];", "circuit.unary"),
    "10,000 exclamation marks": (Q + f"if ({'!' * DEEP}true) {{ x q[0]; }}", "circuit.unary"),
    "a sum of 20,000": (
        Q + f"rx({'1+' * 20_000}1) q[0];",
        "circuit.nesting circuit.deadline circuit.unreadable",
    ),
    "a tower of 5,000 powers": (Q + f"rx({'1**' * 5_000}1) q[0];", "circuit.nesting circuit.deadline"),
    "10,000 ifs without braces": (
        Q + "if (c[0] == 1) " * 10_000 + "x q[0];",
        "circuit.nesting circuit.deadline",
    ),
    "5,000 else ifs": (
        Q + "if (c[0] == 1) { x q[0]; }" + " else if (c[0] == 1) { x q[0]; }" * 5_000,
        "circuit.nesting circuit.deadline",
    ),
    "10,000 fors without braces": (
        Q + "for int i in [0:1] " * 10_000 + "x q[0];",
        "circuit.nesting circuit.deadline",
    ),
    "10,000 indices": (Q + "x q" + "[0]" * 10_000 + ";", "circuit.index circuit.nesting circuit.deadline"),
    "2,000 controls": (
        Q + "ctrl @ " * 2_000 + "x q[0];",
        "circuit.modifier circuit.nesting circuit.deadline",
    ),
    "a million controls": (Q + "ctrl(1000000) @ x q[0], q[1];", "circuit.modifier"),
    "a power of a million": (Q + "pow(1000000) @ x q[0];", "circuit.modifier"),
    "too much for the grammar": (Q + "if (c[0] == 1) { x q[0]; }\n" * 20_000, "circuit.grammar"),
    "statements without semicolons": (Q + "x q[0] " * 50_000, "circuit.grammar"),
    "an else without its if": (Q + "if (c[0] == 1) { x q[0]; } x q[1]; else { x q[2]; }", "circuit.syntax"),
    "an array of 10^12": (STD + "array[int[32], 1000000, 1000000] a; qubit q;", "circuit.array"),
    "an integer type of 10^9 bits": (STD + "int[1000000000] n; qubit q;", "circuit.width"),
    "a physical qubit of 10^9": (STD + "h $999999999;", "circuit.qubits"),
    "a physical qubit beyond numbers": (STD + f"h ${'9' * 50};", "circuit.undefined circuit.syntax"),
    "division by zero": (Q + "rx(1/0) q[0];", "circuit.constant"),
    "division by a hidden zero": (Q + "const int z = 1 - 1; rx(pi / z) q[0];", "circuit.constant"),
    "a number beyond reals": (Q + "rx(1e999) q[0];", "circuit.constant"),
    "a root of minus one": (Q + "rx(sqrt(-1)) q[0];", "circuit.constant"),
    "a range without steps": (Q + "for int i in [0:0:9] { x q[0]; }", "circuit.constant"),
    "a loop over an input": (Q + "input int n; for int i in [0:n] { x q[0]; }", "circuit.unbounded"),
    "a loop over a variable": (Q + "int n = 3; for int i in [0:n] { x q[0]; }", "circuit.unbounded"),
    "a loop over what was measured": (
        Q + "c = measure q; for int i in [0:int[32](c)] { x q[0]; }",
        "circuit.unbounded",
    ),
    "an array as a set": (Q + "array[int[32], 3] a; for int i in a { x q[0]; }", "circuit.unbounded"),
}

_DEFINITIONS: Final[dict[str, tuple[str, str]]] = {
    "a gate defined by itself": (STD + "gate g a { g a; }\nqubit q; g q;", "circuit.recursion"),
    "two gates defined by each other": (
        STD + "gate g a { k a; }\ngate k a { g a; }\nqubit q; g q;",
        "circuit.undefined",
    ),
    "a gate of 2^60 gates": (
        STD
        + "gate g0 a { x a; }\n"
        + "".join(f"gate g{n + 1} a {{ g{n} a; g{n} a; }}\n" for n in range(60))
        + "qubit q; g60 q;",
        "circuit.gates",
    ),
    "a subroutine that calls itself": (STD + "def f(qubit a) { f(a); }\nqubit q; f(q);", "circuit.recursion"),
    "subroutines that call each other": (
        STD + "def f(qubit a) { g(a); }\ndef g(qubit a) { f(a); }\nqubit q; f(q);",
        "circuit.recursion",
    ),
    "subroutines of 2^40 calls": (
        STD
        + "def f0(qubit a) { x a; }\n"
        + "".join(f"def f{n + 1}(qubit a) {{ f{n}(a); f{n}(a); }}\n" for n in range(40))
        + "qubit q; f40(q);",
        "circuit.work circuit.deadline",
    ),
    "a measurement in a gate": (
        STD + "gate g a { measure a; }\nqubit q; g q;",
        "circuit.unitary circuit.syntax",
    ),
    "a gate in a block": (Q + "if (c[0] == 1) { gate g a { x a; } }", "circuit.scope circuit.syntax"),
    "qubits in a block": (Q + "if (c[0] == 1) { qubit r; }", "circuit.scope circuit.syntax"),
    "a gate defined twice": (STD + "gate g a { x a; }\ngate g a { y a; }\nqubit q;", "circuit.redefined"),
    "a register defined twice": (STD + "qubit q;\nqubit[3] q;", "circuit.redefined"),
    "another pi": (STD + "const float pi = 0;\nqubit q;", "circuit.redefined circuit.syntax"),
    "an external function": (STD + "extern f(int) -> int;\nqubit q;", "circuit.unsupported"),
    "a calibration grammar": (
        STD + 'defcalgrammar "openpulse";\nqubit q;',
        "circuit.unsupported circuit.string",
    ),
    "a calibration": (STD + "cal { /* } */ }\nqubit q;", "circuit.unsupported"),
    "a gate's calibration": (STD + "defcal x $0 { play(drive($0), w); }\nqubit q;", "circuit.unsupported"),
}

_WRONG: Final[dict[str, tuple[str, str]]] = {
    "a semicolon missing at the end": (Q + "h q[0]", "circuit.syntax"),
    "a semicolon missing": (Q + "h q[0]\nx q[1];", "circuit.syntax"),
    "an index beyond": (Q + "h q[4];", "circuit.index"),
    "an index of a single qubit": (STD + "qubit q; h q[0];", "circuit.index"),
    "the same qubit twice": (Q + "cx q[1], q[1];", "circuit.operand"),
    "the same qubit twice by a register": (Q + "cx q, q[1];", "circuit.operand"),
    "registers of two sizes": (Q + "qubit[3] r; cx q, r;", "circuit.operand"),
    "too few qubits": (Q + "cx q[0];", "circuit.arguments"),
    "too many angles": (Q + "rx(1, 2) q[0];", "circuit.arguments"),
    "an angle too few": (Q + "rx q[0];", "circuit.arguments"),
    "a gate on bits": (Q + "x c[0];", "circuit.operand"),
    "a measurement of bits": (Q + "c = measure c;", "circuit.operand"),
    "a measurement into qubits": (Q + "q = measure q;", "circuit.operand"),
    "a measurement of two sizes": (Q + "bit[3] d; d = measure q;", "circuit.operand"),
    "an undefined angle": (Q + "rx(theta) q[0];", "circuit.undefined"),
    "an undefined register": (STD + "h q[0];", "circuit.undefined"),
    "an undefined function": (Q + "rx(system(1)) q[0];", "circuit.undefined"),
    "no standard library": ("OPENQASM 3.0;\nqubit q;\nh q;", "circuit.undefined"),
    "no qubits": (STD + "bit[2] c;", "circuit.no_qubits"),
    "an empty register": (STD + "qubit[0] q;", "circuit.register"),
    "a negative register": (STD + "qubit[-3] q;", "circuit.register circuit.syntax"),
    "half a register": (STD + "qubit[2.5] q;", "circuit.constant circuit.syntax"),
    "a keyword as a register": (STD + "qubit ctrl;", "circuit.syntax"),
    "another version": ("OPENQASM 4.0;\nqubit q;", "circuit.version"),
    "the version twice": ("OPENQASM 3.0;\nOPENQASM 3.0;\nqubit q;", "circuit.version"),
    "OpenQASM 2 as 3": (Q2, "circuit.version"),
    "Python": ("import os\nos.system('id')\n", "circuit.character circuit.syntax"),
    "JSON": ('{"qubits": 2}', "circuit.string"),
    "shell": ("$(id); rm -rf /", "circuit.syntax"),
}

_QASM2: Final[dict[str, tuple[str, str]]] = {
    "OpenQASM 3 as 2": (Q, "circuit.version"),
    "2: a loop": (Q2 + "for int i in [0:3] { x q[i]; }", "circuit.syntax"),
    "2: a modifier": (Q2 + "ctrl @ x q[0], q[1];", "circuit.syntax"),
    "2: a register of version 3": (Q2 + "qubit[2] r;", "circuit.syntax"),
    "2: a measurement of version 3": (Q2 + "c = measure q;", "circuit.syntax"),
    "2: a measurement into nothing": (Q2 + "measure q;", "circuit.syntax"),
    "2: a physical qubit": (Q2 + "x $0;", "circuit.syntax"),
    "2: the library of version 3": ('include "stdgates.inc"; qreg q[1];', "circuit.syntax"),
    "2: a constant": (Q2 + "const int n = 3;", "circuit.syntax"),
    "2: qreg of 10^9": ('OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1000000000];', "circuit.qubits"),
    "2: include": ('OPENQASM 2.0;\ninclude "/etc/passwd";\nqreg q[1];', "circuit.include"),
    "2: 9^9^9^9": (Q2 + "rx(9^9^9^9) q[0];", "circuit.constant"),
    "2: a gate defined by itself": (Q2 + "gate g a { g a; }\ng q[0];", "circuit.recursion"),
    "2: an undefined gate": (Q2 + "foo q[0];", "circuit.undefined"),
    "2: 10,000 parentheses": (Q2 + f"rx({'(' * DEEP}1{')' * DEEP}) q[0];", "circuit.nesting"),
}

HOSTILE: Final[dict[str, tuple[bytes, str, frozenset[str]]]] = {
    **{
        name: (source.encode(), "QASM3", frozenset(codes.split()))
        for group in (_SEEN, _TEXT, _INCLUDES, _SHAPES, _DEFINITIONS, _WRONG)
        for name, (source, codes) in group.items()
    },
    **{
        name: (source.encode(), "QASM2", frozenset(codes.split())) for name, (source, codes) in _QASM2.items()
    },
    "bytes that are no UTF-8": (Q.encode() + b"// \xff\xfe", "QASM3", frozenset({"circuit.utf8"})),
    "an overlong slash": (STD.encode() + b'include "\xc0\xafetc";', "QASM3", frozenset({"circuit.utf8"})),
    "a surrogate": (Q.encode() + b"// \xed\xa0\x80", "QASM3", frozenset({"circuit.utf8"})),
    "UTF-16": (Q.encode("utf-16"), "QASM3", frozenset({"circuit.utf8"})),
    "an unknown format": (Q.encode(), "QIR", frozenset({"circuit.format"})),
}
