#!/bin/sh
# Ansible asks it with --list, and finds each host's variables in the same answer.
exec cat "$(dirname "$0")/inventory.json"
