package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// Size is a number of bytes, written as a plain number or with one of the units KiB, MiB,
// GiB and TiB. KB, MB, GB and TB, which count in thousands, are read too.
type Size int64

type sizeUnit struct {
	name  string
	bytes int64
}

var sizeUnits = []sizeUnit{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

var decimalUnits = []sizeUnit{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}}

// String prints the largest unit that divides the size.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

var (
	errNoSize    = errors.New("is not a size such as 4096, 64KiB or 32MiB")
	errLargeSize = errors.New("is too large")
)

func parseSize(text string) (Size, error) {
	digits, unit := strings.ReplaceAll(strings.TrimSpace(text), "_", ""), int64(1)
	for _, u := range slices.Concat(sizeUnits, decimalUnits) {
		if rest, ok := strings.CutSuffix(digits, u.name); ok {
			digits, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q %w", text, errNoSize)
	}
	if n > math.MaxInt64/unit || n < math.MinInt64/unit {
		return 0, fmt.Errorf("%q %w", text, errLargeSize)
	}
	return Size(n * unit), nil
}

// sizeFlag is a flag for a number of bytes.
type sizeFlag[N int | int64] struct{ n *N }

// addSizeFlag makes a flag that reads a Size into n.
func addSizeFlag[N int | int64](fl *pflag.FlagSet, n *N, name string, initial N, usage string) {
	*n = initial
	fl.Var(sizeFlag[N]{n}, name, usage)
}

func (f sizeFlag[N]) String() string {
	if f.n == nil { // a zero value, which pflag compares with
		return "0"
	}
	return Size(*f.n).String()
}

func (f sizeFlag[N]) Set(text string) error {
	size, err := parseSize(text)
	switch n := N(size); {
	case errors.Is(err, errNoSize):
		return errors.New("it " + errNoSize.Error())
	case err != nil || Size(n) != size:
		return errors.New("it " + errLargeSize.Error())
	default:
		*f.n = n
		return nil
	}
}

func (sizeFlag[N]) Type() string { return "size" }
