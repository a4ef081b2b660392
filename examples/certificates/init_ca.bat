@echo off
rem Makes the authority, and certificates of a server and an administrator: init_ca
rem What exists stays.
setlocal
sealmq init
