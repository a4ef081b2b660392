@echo off
rem Makes NAME.key, NAME.csr and NAME.crt in the current folder:
rem     generate_cert NAME [DOMAIN] [DAYS] [OPTION...]
rem A name that means a role by convention also wants that role: --role proxy
setlocal
if "%~1"=="" (
  echo usage: generate_cert NAME [DOMAIN] [DAYS] [OPTION...] 1>&2
  exit /b 2
)
set "name=%~1"
set "domain=%~2"
set "days=%~3"
if "%domain%"=="" set "domain=default"
if "%days%"=="" set "days=365"
sealmq cert request "%name%"
if errorlevel 1 exit /b 1
sealmq cert sign "%name%" "%name%.csr" --out . --domain "%domain%" --days "%days%" %4 %5 %6 %7 %8 %9
