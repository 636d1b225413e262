// Package e2e holds tests that run the programs as their users do. It has no
// code to call.
package e2e
