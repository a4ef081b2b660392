package portal

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// What people type into forms: sizes and times with their units.

// sizeUnits are the units of sizes.
var sizeUnits = map[string]float64{"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}

var typedSize = regexp.MustCompile(`^([0-9]{1,19}(?:\.[0-9]{1,9})?) ?([A-Za-z]{0,3})$`)

// sizeOf reads a size such as "1 GB", "32 MiB" or "50,000". An empty one is 0.
func sizeOf(text string) (n int64, ok bool) {
	text = strings.ReplaceAll(strings.TrimSpace(text), ",", "")
	if text == "" {
		return 0, true
	}
	m := typedSize.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	unit, known := sizeUnits[strings.ToLower(m[2])]
	if whole, err := strconv.ParseInt(m[1], 10, 64); known && err == nil && unit == 1 {
		return whole, true
	}
	value, err := strconv.ParseFloat(m[1], 64)
	if value *= unit; !known || err != nil || value >= math.MaxInt64 || value != math.Trunc(value) {
		return 0, false
	}
	return int64(value), true
}

// typedSizeOf is a size as sizeOf reads it, in the largest unit that divides it.
func typedSizeOf(n int64) string {
	for _, u := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if bytes := int64(sizeUnits[strings.ToLower(u)]); n > 0 && n%bytes == 0 {
			return strconv.FormatInt(n/bytes, 10) + " " + u
		}
	}
	return strconv.FormatInt(n, 10)
}

var typedTime = regexp.MustCompile(`^([0-9]{1,5}) ?([A-Za-z]+)$`)

// timeUnits are the units of durations in words; those of the API stay as they are.
var timeUnits = map[string]struct {
	times int
	unit  string
}{"d": {24, "h"}, "day": {24, "h"}, "days": {24, "h"}, "hour": {1, "h"}, "hours": {1, "h"}, "min": {1, "m"}, "minute": {1, "m"}, "minutes": {1, "m"}, "sec": {1, "s"}, "second": {1, "s"}, "seconds": {1, "s"}}

// durationText is a duration of the API in words, in the largest unit that divides it.
func durationText(text string) string {
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second {
		return text
	}
	for _, u := range []struct {
		of   time.Duration
		word string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if d%u.of == 0 {
			return plural(int64(d/u.of), u.word)
		}
	}
	return text
}

// durationOf makes of "7 days" what the API reads. Other texts stay as they are.
func durationOf(text string) string {
	text = strings.TrimSpace(text)
	m := typedTime.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	u, ok := timeUnits[strings.ToLower(m[2])]
	if !ok {
		return m[1] + strings.ToLower(m[2])
	}
	n, _ := strconv.Atoi(m[1]) // digits
	return strconv.Itoa(n*u.times) + u.unit
}
