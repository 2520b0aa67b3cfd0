package qcos.lib.money_test

import data.qcos.lib.money

test_whole_and_fraction if money.text(12500000, "USD") == "12.500000 USD"

test_small if money.text(123, "EUR") == "0.000123 EUR"

test_zero if money.text(0, "USD") == "0.000000 USD"

test_negative if money.text(-1500000, "USD") == "-1.500000 USD"

test_largest_exact_amount if money.text(9007199254740991, "USD") == "9007199254.740991 USD"
