# Makes a folder that only administrators and the system can use. One that is there, and that others
# may use or own, is refused: what is in it may be theirs.
function New-PrivateFolder([string]$Path) {
    $sid = [Security.Principal.SecurityIdentifier]
    $trusted = 'S-1-5-32-544', 'S-1-5-18' # the administrators, and the system
    $rights = New-Object Security.AccessControl.DirectorySecurity
    $rights.SetSecurityDescriptorSddlForm('O:BAD:P(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)')
    [IO.Directory]::CreateDirectory($Path, $rights) | Out-Null
    $acl = Get-Acl -LiteralPath $Path
    $users = @($acl.GetOwner($sid).Value) + @($acl.GetAccessRules($true, $true, $sid) | ForEach-Object { $_.IdentityReference.Value })
    $others = @($users | Where-Object { $_ -notin $trusted } | Select-Object -Unique)
    if ($others -or (Get-Item -LiteralPath $Path -Force).Attributes -match 'ReparsePoint') {
        throw "$Path is a link, or others than administrators may use it ($others); move it away, or name another folder"
    }
}
