"""The heart: nouns, states, errors, BMCs, discovery, networks, Ironic, claims, reconcile."""
