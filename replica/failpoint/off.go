//go:build !failpoints

package failpoint

import "net/http"

// Enabled says whether this build has failpoints.
const Enabled = false

// Hit does nothing in this build.
func Hit(string) {}

// Off is false in this build: no guard can be switched off.
func Off(string) bool { return false }

// Handler answers 404 in this build.
func Handler() http.Handler { return http.NotFoundHandler() }
