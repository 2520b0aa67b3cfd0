"""Metering and money: what a job consumed, what it costs, that nobody overspends (R3.2, R3.5, R6).

`measure` makes usages of what a driver reports, `price` makes amounts of usages with a price book, `reserve`
moves money and shots from reserved to settled, each at most once, `store` keeps budgets, quotas, usages and
charges, `audit` proves from the tables that nothing was lost. Amounts are integers of micro-units (1e-6 of a
currency unit).
"""
