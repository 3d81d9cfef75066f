"""The rules: pure decisions on frozen values.

No await, no clock, no environment, no randomness, no files: values in, decisions out. Shells read, ask one rule, write.
"""
