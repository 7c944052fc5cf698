"""Rounds in which agents wait for each other: their times, and how long a round takes in the long run.

If agent k can go on once the messages of its neighbours have arrived, its times follow S_k' = max_l (S_l + D_lk): a
product of a matrix and a vector in the max-plus algebra, with max for the sum and + for the product (Baccelli, Cohen,
Olsder, Quadrat: Synchronization and Linearity, Wiley 1992). Times are integer nanoseconds, so that sums are exact in
any order.
"""
