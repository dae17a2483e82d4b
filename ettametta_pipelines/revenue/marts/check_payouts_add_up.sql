-- Payouts whose amount is not the sum of what they paid. Inputs: reconciled (rows of reconciled_payouts.sql); macro shown.
SELECT
    payout_id || ' paid out ' || shown(amount_minor, currency, exponent) || ', its ' || rows_listed
    || ' rows come to ' || shown(paid_minor, currency, exponent) || ': off by '
    || shown(difference_minor, currency, exponent) AS said
FROM reconciled
WHERE standing = 'differs'
