@echo off
rem Checks a certificate, and ends with 0 if it is good: verify_cert NAME or FILE
setlocal
if "%~1"=="" (
  echo usage: verify_cert NAME^|FILE 1>&2
  exit /b 2
)
sealmq cert verify "%~1"
