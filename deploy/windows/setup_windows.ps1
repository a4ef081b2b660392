#Requires -PSEdition Desktop
#Requires -RunAsAdministrator
# Sets a node up as a service of Windows, in a console of an administrator. Run it again to go on
# after an error, or to update sealmq.exe:
#     .\setup_windows.ps1 [-Folder C:\sealmq] [-Roles proxy,worker]
# sealmq.exe and the other scripts must be beside this one. Without roles the node has all.
[CmdletBinding(PositionalBinding = $false)]
param([string]$Folder = 'C:\sealmq', [string[]]$Roles = @())
$ErrorActionPreference = 'Stop'
. (Join-Path $PSScriptRoot 'folder.ps1')
$Roles = @($Roles -split ',' | Where-Object { $_ }) # "powershell -File" passes a list as one word
$Folder = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($Folder)
$exe = Join-Path $Folder 'sealmq.exe'
function Invoke-SealMQ { & $exe @args; if ($LASTEXITCODE) { throw "sealmq $args failed" } }

New-PrivateFolder $Folder
$service = Get-Service ((@('sealmq') + $Roles) -join '-') -ErrorAction SilentlyContinue
if ($service) { Stop-Service -InputObject $service } # the program of a service that runs cannot be replaced
foreach ($name in 'sealmq.exe', 'backup.ps1', 'folder.ps1') {
    $from = Join-Path $PSScriptRoot $name
    $to = Join-Path $Folder $name
    if ($from -ne $to) { Copy-Item $from $to -Force }
}
$at = @('--config', (Join-Path $Folder 'sealmq.yaml'), '--data', (Join-Path $Folder 'data'))
if (-not (Test-Path $at[1])) { New-Item -ItemType File $at[1] | Out-Null }
# Proxies, workers and portals make no authority: their hosts are enrolled. So may be a broker's.
$makes = -not $Roles -or 'broker' -in $Roles -or 'main' -in $Roles
if ($makes -and -not (Test-Path (Join-Path $Folder 'data\ca\root.crt'))) { Invoke-SealMQ init @at }
$check = @('config', 'check') + @($Roles | ForEach-Object { '--role', $_ })
Invoke-SealMQ @check @at
if (-not $service) { Invoke-SealMQ service install @Roles @at }
Invoke-SealMQ service start @Roles @at
