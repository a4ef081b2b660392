@echo off
rem Lists certificates: list_certs [all, active, revoked or expired]
setlocal
set "status=%~1"
if "%status%"=="" set "status=all"
sealmq cert list --status "%status%"
