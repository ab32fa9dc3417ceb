// Requests a code for a user, reads it from standard input and verifies it.
// Start: OTPD_URL=http://127.0.0.1:3000 go run examples/call/otp.go person@example.com
package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

type answer struct {
	OtpID string `json:"otp_id"`
	Error string `json:"error"`
}

var client = &http.Client{Timeout: 4 * time.Second}

// The key stays the same over all attempts: a repeat gets the answer that was lost.
func post(path string, body map[string]string, attempts int) (int, answer) {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		panic(err)
	}
	sent, _ := json.Marshal(body)
	url := os.Getenv("OTPD_URL")
	if url == "" {
		url = "http://127.0.0.1:3000"
	}
	for attempt := 0; attempt < attempts; attempt++ {
		request, err := http.NewRequest("POST", url+path, bytes.NewReader(sent))
		if err != nil {
			panic(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", hex.EncodeToString(random))
		if key := os.Getenv("OTPD_KEY"); key != "" {
			request.Header.Set("Authorization", "Bearer "+key)
		}
		wait := 200 * time.Millisecond << attempt
		if response, err := client.Do(request); err == nil {
			var read answer
			err = json.NewDecoder(response.Body).Decode(&read)
			response.Body.Close()
			if err == nil && response.StatusCode != 409 && response.StatusCode != 503 {
				return response.StatusCode, read
			}
			seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
			if named := time.Duration(seconds) * time.Second; named > wait {
				wait = named
			}
		}
		if attempt+1 < attempts {
			time.Sleep(wait)
		}
	}
	return 503, answer{Error: "unavailable"}
}

func main() {
	if len(os.Args) < 2 || os.Args[1] == "" {
		fmt.Fprintln(os.Stderr, "usage: go run examples/call/otp.go USER")
		os.Exit(2)
	}
	pair := map[string]string{"user_id": os.Args[1], "purpose": "login"}
	status, sent := post("/otp/request", pair, 5)
	if status != 201 {
		fmt.Println(sent.Error)
		os.Exit(1)
	}
	fmt.Println("sent")
	pair["otp_id"] = sent.OtpID
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		pair["code"] = strings.TrimSpace(lines.Text())
		// A wrong code counts each time that it arrives, so it is repeated once and no more.
		status, got := post("/otp/verify", pair, 2)
		if status == 200 {
			fmt.Println("verified")
			return
		}
		fmt.Println(got.Error)
		if got.Error != "invalid_code" {
			os.Exit(1)
		}
	}
}
