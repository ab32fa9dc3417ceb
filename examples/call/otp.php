<?php
// Requests a code for a user, reads it from standard input and verifies it. Needs no extension.
// Start: OTPD_URL=http://127.0.0.1:3000 php examples/call/otp.php person@example.com

/** The key stays the same over all attempts: a repeat gets the answer that was lost. */
function post(string $path, array $body, int $attempts): array
{
    $url = (getenv('OTPD_URL') ?: 'http://127.0.0.1:3000') . $path;
    $headers = ['Content-Type: application/json', 'Idempotency-Key: ' . bin2hex(random_bytes(16))];
    if (getenv('OTPD_KEY')) {
        $headers[] = 'Authorization: Bearer ' . getenv('OTPD_KEY');
    }
    $context = stream_context_create(['http' => [
        'method' => 'POST', 'header' => $headers, 'content' => json_encode($body),
        'timeout' => 4, 'ignore_errors' => true, 'follow_location' => 0,
    ]]);
    for ($attempt = 0; $attempt < $attempts; $attempt++) {
        $stream = @fopen($url, 'r', false, $context);
        $head = $stream ? stream_get_meta_data($stream)['wrapper_data'] : [''];
        $answer = json_decode($stream ? stream_get_contents($stream) : '', true);
        $status = (int) substr($head[0], 9, 3);
        if (is_array($answer) && $status !== 409 && $status !== 503) {
            return [$status, $answer];
        }
        $wait = 0.2 * 2 ** $attempt;
        foreach ($head as $line) {
            if (preg_match('/^Retry-After: (\d+)$/i', $line, $found)) {
                $wait = max($wait, (int) $found[1]);
            }
        }
        if ($attempt + 1 < $attempts) {
            usleep((int) ($wait * 1e6));
        }
    }
    return [503, ['error' => 'unavailable']];
}

if (($argv[1] ?? '') === '') {
    fwrite(STDERR, "usage: php examples/call/otp.php USER\n");
    exit(2);
}
$pair = ['user_id' => $argv[1], 'purpose' => 'login'];
[$status, $sent] = post('/otp/request', $pair, 5);
echo $status === 201 ? 'sent' : $sent['error'], "\n";
if ($status !== 201) {
    exit(1);
}
while (($code = fgets(STDIN)) !== false) {
    // A wrong code counts each time that it arrives, so it is repeated once and no more.
    $attempt = $pair + ['otp_id' => $sent['otp_id'], 'code' => trim($code)];
    [$status, $answer] = post('/otp/verify', $attempt, 2);
    echo $status === 200 ? 'verified' : $answer['error'], "\n";
    if (($answer['error'] ?? '') !== 'invalid_code') {
        exit($status === 200 ? 0 : 1);
    }
}
