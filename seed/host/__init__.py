"""The appliance's host side: services, their configuration, users, keys, checks, up and down."""
