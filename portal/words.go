package portal

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sealmq/sealmq"
)

// Words, numbers and times, as all pages write them.

// roleTexts are the roles in words, and what they may do.
var roleTexts = map[sealmq.Role]struct{ name, may string }{
	admin:       {"Administrator", "An administrator does everything."},
	operator:    {"Operator", "An operator sees everything but texts of messages, and changes nothing."},
	userManager: {"User manager", "A user manager looks after the accounts of users."},
	user:        {"User", "A user sees the messages of one client."},
}

// roleName is a role in words.
func roleName(r sealmq.Role) string { return cmp.Or(roleTexts[r].name, string(r)) }

// allRoles is what each role may do.
func allRoles() string {
	return strings.Join([]string{roleTexts[user].may, roleTexts[userManager].may, roleTexts[operator].may, roleTexts[admin].may}, " ")
}

// ago is a time relative to now for a day, and the date after that.
func (p *Portal) ago(t time.Time) string {
	d := p.cfg.Now().Sub(t)
	switch {
	case d > -24*time.Hour && d < 24*time.Hour:
		return agoText(d)
	case d > -180*24*time.Hour && d < 180*24*time.Hour:
		return t.UTC().Format("2 Jan 15:04") + " UTC"
	}
	return t.UTC().Format("2 Jan 2006")
}

func agoText(d time.Duration) string {
	abs := d.Abs()
	text := ""
	switch {
	case abs < time.Second:
		return "now"
	case abs < time.Minute:
		text = fmt.Sprintf("%d s", abs/time.Second)
	case abs < time.Hour:
		text = fmt.Sprintf("%d min", abs/time.Minute)
	default:
		text = fmt.Sprintf("%d h", abs/time.Hour)
	}
	if d < 0 {
		return "in " + text
	}
	return text + " ago"
}

// sinceText is how long something lasts: "a moment", "3 min".
func sinceText(d time.Duration) string {
	if d < 5*time.Second {
		return "a moment ago"
	}
	if d >= 48*time.Hour {
		return plural(int(d/(24*time.Hour)), "day") + " ago"
	}
	return agoText(d)
}

// waitText is how long to wait.
func waitText(d time.Duration) string {
	if d < 90*time.Second {
		return plural(int(math.Ceil(d.Seconds())), "second")
	}
	return plural(int(math.Ceil(d.Minutes())), "minute")
}

func isoTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// clockTime is a time of day, for what is not shown anew while it gets older.
func clockTime(t time.Time) string { return t.UTC().Format("15:04") + " UTC" }

// utcTime is the exact time.
func utcTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000 UTC") }

// whole is a number of any kind of integer, which templates pass on as they are.
func whole(n any) int64 {
	v := reflect.ValueOf(n)
	switch {
	case v.CanInt():
		return v.Int()
	case v.CanUint():
		return int64(min(v.Uint(), math.MaxInt64)) //nolint:gosec // bounded
	}
	return 0
}

// number groups the digits of a count: 12,480.
func number(n any) string {
	s := strconv.FormatInt(whole(n), 10)
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// byteSize is a size with three digits: 1.24 MiB.
func byteSize(size any) string {
	const units = "KMGTPE"
	n := whole(size)
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1023.5 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return digits(v) + " " + units[i:i+1] + "iB"
}

// took is a duration with three digits at most: 0.34 s, 12 min.
func took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "< 1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d/time.Millisecond)
	case d < time.Minute:
		return digits(d.Seconds()) + " s"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

func digits(v float64) string {
	if v < 10 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// plural is a count with its word: "1 message", "12,480 messages". The plural may be given.
func plural(n any, word string, words ...string) string {
	many := word + "s"
	if len(words) > 0 {
		many = words[0]
	}
	if whole(n) == 1 {
		return "1 " + word
	}
	return number(n) + " " + many
}

// sentence ends a text of the API, which has no full stop, as the portal's own do.
func sentence(text string) string {
	last, _ := utf8.DecodeLastRuneInString(text)
	if text == "" || !unicode.IsLetter(last) && !unicode.IsDigit(last) {
		return text
	}
	return text + "."
}

// joinText joins what is not empty.
func joinText(sep string, parts ...string) string {
	var list []string
	for _, p := range parts {
		if p != "" {
			list = append(list, p)
		}
	}
	return strings.Join(list, sep)
}

// icons are drawn on 16 by 16 units. They stand beside words, never alone.
var icons = map[string]string{
	"seal":         `M2 4.5 8 9l6-4.5M2.5 3.5h11a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1h-11a1 1 0 0 1-1-1v-7a1 1 0 0 1 1-1Z`,
	"overview":     `M2 13.5h12M4 11V8m4 3V3m4 8V6`,
	"messages":     `M2.5 3h11v8h-6l-3 2.5V11h-2V3Z`,
	"queues":       `M2.5 4h11m-11 4h11m-11 4h7`,
	"dead":         `M8 2.5 14.5 13.5h-13L8 2.5Zm0 4.5v3m0 1.75v.25`,
	"connections":  `M5 2v3m6-3v3M3.5 5h9v2.5a4.5 4.5 0 0 1-9 0V5ZM8 12v2.5`,
	"certificates": `M8 1.5 13.5 3.5V8c0 3-2.3 5.2-5.5 6.5C4.8 13.2 2.5 11 2.5 8V3.5L8 1.5ZM5.5 7.8l1.8 1.8L10.7 6`,
	"more":         `M3 8h.01M8 8h.01M13 8h.01`,
}

// iconOf draws an icon.
func iconOf(name string) template.HTML {
	return template.HTML(`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d="` + cmp.Or(icons[name], icons["seal"]) + `"/></svg>`) //nolint:gosec // of our own table
}

// deviceOf is a browser and a system in words, as far as the header User-Agent tells.
func deviceOf(agent string) string {
	find := func(pairs ...string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if strings.Contains(agent, pairs[i]) {
				return pairs[i+1]
			}
		}
		return ""
	}
	browser := find("Edg/", "Edge", "OPR/", "Opera", "Firefox/", "Firefox", "Chrome/", "Chrome", "Safari/", "Safari", "curl/", "curl")
	system := find("Android", "Android", "iPhone", "iPhone", "iPad", "iPad", "Windows", "Windows", "Mac OS X", "macOS", "CrOS", "ChromeOS", "Linux", "Linux")
	return cmp.Or(joinText(" on ", browser, system), "Unknown program")
}
