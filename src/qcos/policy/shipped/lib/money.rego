# METADATA
# title: Amounts of money as text
# description: Micro-units (integers) to decimal text, without floating point.
package qcos.lib.money

# text(12500000, "USD") is "12.500000 USD".
text(micro, currency) := sprintf("%s%d.%s %s", [sign(micro), whole(abs(micro)), fraction(abs(micro)), currency])

sign(micro) := "-" if micro < 0

sign(micro) := "" if micro >= 0

whole(micro) := (micro - (micro % 1000000)) / 1000000

# Six digits: the leading 1 keeps the zeros.
fraction(micro) := substring(sprintf("%d", [1000000 + (micro % 1000000)]), 1, 6)
