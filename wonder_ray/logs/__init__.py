"""The log service: operational lines ("what went wrong") of all services and of user code, in a rotating SQLite store.

record   one line and its bounds                 context  which run, node and token a line belongs to
client   what services write lines with          capture  what user code prints and logs, as lines
service  bounded queue and writer thread         store    the rotating files
query    reading beside the writer               actor    the service as a Ray actor, and the way to reach it

A line travels `client -> actor -> service -> store`; it may be dropped anywhere on the way (a full buffer, a full disk),
is then counted, and the count is itself a line (`log_lines_dropped`). Nothing on the way blocks or raises.
"""
