"""`meshlb demo`: a whole mesh on one machine, with clients that check what it promises."""
