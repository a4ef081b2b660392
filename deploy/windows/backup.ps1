#Requires -PSEdition Desktop
#Requires -RunAsAdministrator
# Backs up a node that setup_windows.ps1 made, while it runs, and copies its backups and that of its
# keys to another disk. Copies that are older than 30 days are deleted. The backup of the keys needs
# backup.passphrase_file; with backup.folder name that folder as -From.
#     .\backup.ps1 -To D:\backup [-Folder C:\sealmq] [-From C:\sealmq\data\backups]
param([Parameter(Mandatory)][string]$To, [string]$Folder = 'C:\sealmq', [string]$From = (Join-Path $Folder 'data\backups'))
$ErrorActionPreference = 'Stop'
. (Join-Path $PSScriptRoot 'folder.ps1')
if (-not (Split-Path $To -Parent)) { throw "$To is a whole disk; name a folder on it" }
New-PrivateFolder $To
$begun = Get-Date
& (Join-Path $Folder 'sealmq.exe') backup --config (Join-Path $Folder 'sealmq.yaml') --data (Join-Path $Folder 'data')
if ($LASTEXITCODE) { throw 'no backup was made' }

Copy-Item (Join-Path $From 'backup_*') $To
if (-not (Get-ChildItem $From -Filter backup_*.zip | Where-Object LastWriteTime -ge $begun)) {
    throw "the backup is not in $From; name the folder backup.folder as -From"
}
if (-not (Test-Path (Join-Path $From 'backup_keys.age'))) {
    throw 'the keys are in no backup, and without them it cannot be read; set backup.passphrase_file'
}
Get-ChildItem $To -Filter backup_*.zip* | Where-Object LastWriteTime -lt (Get-Date).AddDays(-30) | Remove-Item
