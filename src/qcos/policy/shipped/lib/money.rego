# METADATA
# title: Amounts of money as text
# description: Micro-units (integers) to decimal text, without floating point.
package qcos.lib.money

# text(12500000, "USD") is "12.500000 USD".
text(micro, currency) := sprintf("%d.%s %s", [whole(micro), fraction(micro), currency]) if micro >= 0

text(micro, currency) := concat("", ["-", text(0 - micro, currency)]) if micro < 0

whole(micro) := (micro - (micro % 1000000)) / 1000000

# Six digits: the leading 1 keeps the zeros.
fraction(micro) := substring(sprintf("%d", [1000000 + (micro % 1000000)]), 1, 6)
