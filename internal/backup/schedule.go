package backup

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Schedule says when backups are made by themselves. The zero value is never.
type Schedule struct {
	text         string
	day          int // of the week, or everyDay
	hour, minute int
}

const everyDay = -1

var days = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseSchedule reads "off", or a day of the week or "daily", and a time of day, such as
// "sun 02:00".
func ParseSchedule(s string) (Schedule, error) {
	if s == "off" {
		return Schedule{}, nil
	}
	day, at, _ := strings.Cut(s, " ")
	t, err := time.Parse("15:04", at)
	d := slices.Index(days, day)
	if day == "daily" {
		d = everyDay
	} else if d < 0 && err == nil {
		err = fmt.Errorf("%q is no day", day)
	}
	if err != nil {
		return Schedule{}, fmt.Errorf(`%q is not like "sun 02:00", "daily 02:00" or off; the days are %s`, s, strings.Join(days, ", "))
	}
	return Schedule{text: s, day: d, hour: t.Hour(), minute: t.Minute()}, nil
}

// String is what ParseSchedule reads.
func (s Schedule) String() string {
	if s.text == "" {
		return "off"
	}
	return s.text
}

// Next is the first time after one, in its zone; zero if there is none. A time of day that the
// clocks leave out in spring is an hour later.
func (s Schedule) Next(after time.Time) time.Time {
	if s.text == "" {
		return time.Time{}
	}
	for i := 0; ; i++ {
		t := time.Date(after.Year(), after.Month(), after.Day()+i, s.hour, s.minute, 0, 0, after.Location())
		if t.After(after) && (s.day == everyDay || int(t.Weekday()) == s.day) {
			return t
		}
	}
}

// period is how much time is between two backups.
func (s Schedule) period() time.Duration {
	switch {
	case s.text == "":
		return 0
	case s.day == everyDay:
		return 24 * time.Hour
	}
	return 7 * 24 * time.Hour
}
