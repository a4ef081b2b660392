//go:build !linux

package crash_test

import "testing"

func TestPowerLoss(t *testing.T) {
	t.Skipf("only Linux can shut a file system down; %d cuts not made", *cuts)
}
