// Package mutation tests the tests of the product. It breaks the product in ways that would
// lose, repeat or invent messages, one at a time, and requires that the test for that promise
// fails. The variants are built with "go build -overlay", so the product has no switch for
// them.
//
// It has only tests. They do not test the product itself: the suites that they run do.
package mutation
