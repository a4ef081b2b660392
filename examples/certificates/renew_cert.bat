@echo off
rem Replaces NAME.key and NAME.crt in the current folder: renew_cert NAME [DAYS]
rem The old files go to the folder backup.
setlocal
if "%~1"=="" (
  echo usage: renew_cert NAME [DAYS] 1>&2
  exit /b 2
)
set "days=%~2"
if "%days%"=="" set "days=365"
sealmq cert renew "%~1" --out . --days "%days%"
