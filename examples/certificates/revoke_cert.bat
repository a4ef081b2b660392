@echo off
rem Revokes every certificate of a name at once: revoke_cert NAME [REASON]
setlocal
if "%~1"=="" (
  echo usage: revoke_cert NAME [REASON] 1>&2
  exit /b 2
)
set "reason=%~2"
if "%reason%"=="" set "reason=Unspecified"
sealmq cert revoke "%~1" --reason "%reason%" --force
