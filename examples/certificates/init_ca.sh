#!/bin/sh
# Makes the authority, and certificates of a server and an administrator: init_ca.sh
# What exists stays.
exec sealmq init
