"""Many BMCs in one process: Redfish and the IPMI probe, each on its own address, lies on demand.

spec.py     what a fleet is asked to be
bmc.py      one BMC: who it is, what it remembers, what it counted
tree.py     what its Redfish service shows (DSP0266, DSP0268); parts.py: what it has several of
redfish.py  which answer a request gets: logins, sessions, changes
lies.py     answers that no BMC should give
http.py     HTTP over TLS on one listener for all addresses
rmcp.py     UDP 623
fleet.py    all of it in one event loop, and the socket by which it is asked and told
wire.py     the addresses, in a network namespace
running.py  a fleet as a child process; what tests and `seed lab fleet` use
"""
