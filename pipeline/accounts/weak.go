package accounts

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// commonWords are what the passwords that everybody tries first are made of. With digits and signs
// around them, and digits in place of letters, they are still the same passwords.
var commonWords = strings.Fields(`
	password passwort passphrase passwd mypassword yourpassword newpassword oldpassword password1a changeme changeit changethis letmein
	welcome willkommen hello hallo goodbye secret geheim topsecret default temporary temp test testing tester testtest guest user
	username login signin access open opensesame sesame admin administrator adminadmin adminpass adminpassword root rootroot toor superuser
	superman batman spiderman ironman starwars pokemon matrix dragon monkey tiger lion panther eagle falcon shadow phoenix
	master masterkey killer hunter ranger soldier warrior ninja pirate samurai wizard merlin gandalf frodo hobbit
	football fussball baseball basketball hockey soccer tennis golf chelsea arsenal liverpool barcelona juventus bayern
	sunshine rainbow princess prinzessin flower butterfly summer sommer winter spring autumn herbst january february march april
	june july august september october november december monday tuesday wednesday thursday friday saturday sunday
	iloveyou ichliebedich loveyou lovely lover love forever sweetheart schatz darling angel babygirl baby family mother father
	computer internet server database system network windows linux android google facebook twitter instagram microsoft apple amazon
	samsung nintendo playstation minecraft fortnite hacker security cisco oracle mysql postgres redis rabbit rabbitmq broker message
	messagebroker mainserver company business office manager service support helpdesk customer
	qwerty qwertz azerty asdf zxcv qazwsx qweasd qweasdzxc asdfasdf qwerqwer abcd abcabc abc trustno letmeinnow nopassword none
	whatever nothing something anything blahblah blink freedom peace money million lucky charlie michael jordan jessica ashley daniel
	thomas robert michelle nicole andrea maria jennifer matthew andrew joshua anthony william george
	cookie chocolate banana orange cheese pizza coffee pepper ginger cherry peanut pumpkin
	mercedes porsche ferrari bmw audi mustang corvette yamaha harley camaro
	berlin london paris newyork london chicago dallas germany england france america
`)

// rows are keys and signs in the order in which fingers find them.
var rows = []string{"01234567890", "abcdefghijklmnopqrstuvwxyz", "qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl", "zxcvbnm", "yxcvbnm",
	"1q2w3e4r5t6y7u8i9o0p", "1qaz2wsx3edc4rfv5tgb6yhn7ujm", "qazwsxedcrfvtgbyhnujm"}

// fewSigns is how many different signs a password must have more than.
const fewSigns = 3

var digitsForLetters = strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "i")

// weak reports whether a password is one that is tried first.
func weak(password string) bool {
	p := strings.ToLower(password)
	signs := []rune(p)
	slices.Sort(signs)
	if len(slices.Compact(signs)) <= fewSigns || inRows(p) {
		return true
	}
	word := strings.TrimFunc(p, func(r rune) bool { return r < 'a' && r < utf8.RuneSelf || r > 'z' && r < utf8.RuneSelf })
	word = digitsForLetters.Replace(word)
	return slices.Contains(commonWords, word) || inRows(word) && len(word) > len(p)/2
}

// inRows reports whether a text is nothing but pieces of rows, forwards or backwards, of at least
// three signs each.
func inRows(p string) bool {
	for len(p) > 0 {
		n := 0
		for _, row := range rows {
			for _, row := range []string{row, reversed(row)} {
				for i := len(p); i >= 3 && i > n; i-- {
					if strings.Contains(row, p[:i]) {
						n = i
					}
				}
			}
		}
		if n == 0 {
			return false
		}
		p = p[n:]
	}
	return true
}

func reversed(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

// minPart is the length from which on a name counts as a part of a password.
const minPart = 4

// productName is no part of a password.
const productName = "sealmq"

// named reports whether a password has the product's name or an account's in it.
func named(password string, u User) bool {
	local, _, _ := strings.Cut(normalEmail(u.Email), "@")
	for _, part := range []string{productName, local, strings.ToLower(strings.TrimSpace(u.Name))} {
		if utf8.RuneCountInString(part) >= minPart && strings.Contains(strings.ToLower(password), part) {
			return true
		}
	}
	return false
}
