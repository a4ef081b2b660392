//go:build unix

package journal

import "syscall"

var errQuota error = syscall.EDQUOT
