"""The appliance: CLI, settings, wiring, services on the host, lab, doctor."""
